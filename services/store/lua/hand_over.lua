-- Move one group from the source stream to the target, once.
-- KEYS: source, its index, target, its index, finished bitmap, handed-over counters, tallies.
-- ARGV: group, consumer, entry id, number, job, step, payload, ledgered, tokens
-- Answers 1, or 0 when the entry is not the consumer's, or -1 when its number is finished: the entry is removed then.
-- include index
local owner = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)
if #owner == 0 or owner[1][2] ~= ARGV[2] then return 0 end
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[3]) ~= 1 then return 0 end
take_out(KEYS[1], KEYS[2], ARGV[3])
if ARGV[8] == '1' and redis.call('GETBIT', KEYS[5], ARGV[4]) == 1 then
  waste(KEYS[7], 'duplicate', ARGV[9])
  return -1
end
put(KEYS[3], KEYS[4], {'job', ARGV[5], 'number', ARGV[4], 'step', ARGV[6], 'tokens', ARGV[9], 'payload', ARGV[7]})
redis.call('HINCRBY', KEYS[6], ARGV[2], 1)
if ARGV[8] == '1' and tonumber(ARGV[9]) > 0 then
  redis.call('HINCRBY', KEYS[7], 'sampled_groups', 1)
  redis.call('HINCRBY', KEYS[7], 'sampled_bytes', #ARGV[7])
end
return 1
