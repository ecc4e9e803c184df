-- Issue the next number: refused unless it equals the cursor, and unless the wish it honours (if any) is the first.
-- KEYS: prompts, its index, cursor, wishes, requeues, origins.
-- ARGV: number, job, step, payload, wish ("" for none), its letter, the number whose row it takes
-- include index
if tonumber(redis.call('GET', KEYS[3]) or '0') ~= tonumber(ARGV[1]) then return 0 end
if ARGV[5] ~= '' then
  if redis.call('LINDEX', KEYS[4], 0) ~= ARGV[5] then return 0 end
  redis.call('LPOP', KEYS[4])
  redis.call('HSET', KEYS[6], ARGV[1], ARGV[7])
  if redis.call('HEXISTS', KEYS[5], ARGV[6]) == 1 then redis.call('HSET', KEYS[5], ARGV[6], ARGV[1]) end
end
redis.call('INCR', KEYS[3])
put(KEYS[1], KEYS[2], {'job', ARGV[2], 'number', ARGV[1], 'step', ARGV[3], 'payload', ARGV[4]})
return 1
