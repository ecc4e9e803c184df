-- A consumer is known to be dead: end all its leases now. Take-over still counts the death.
-- KEYS: stream. ARGV: group, consumer
local released = 0
for _, row in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 10000, ARGV[2])) do
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, row[1], 'IDLE', 2000000000, 'JUSTID')
  released = released + 1
end
return released
