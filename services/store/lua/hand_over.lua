-- Move one group from the source stream to the target, once.
-- KEYS: source, target, finished bitmap, handed-over counters. ARGV: group, consumer, entry id, number, job, step, payload, ledgered
local owner = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)
if #owner == 0 or owner[1][2] ~= ARGV[2] then return 0 end
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[3]) ~= 1 then return 0 end
redis.call('XDEL', KEYS[1], ARGV[3])
if ARGV[8] == '1' and redis.call('GETBIT', KEYS[3], ARGV[4]) == 1 then return 0 end
redis.call('XADD', KEYS[2], '*', 'job', ARGV[5], 'number', ARGV[4], 'step', ARGV[6], 'payload', ARGV[7])
redis.call('HINCRBY', KEYS[4], ARGV[2], 1)
return 1
