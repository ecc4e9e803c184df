-- Give one entry back: idle for ever, held by nobody real, so that the next take-over finds it and counts no death.
-- KEYS: stream. ARGV: group, consumer, entry id
local row = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)
if #row == 0 or row[1][2] ~= ARGV[2] then return 0 end
redis.call('XCLAIM', KEYS[1], ARGV[1], 'given-back', 0, ARGV[3], 'IDLE', 2000000000, 'JUSTID')
return 1
