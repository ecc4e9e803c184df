-- The learner finished numbers (trained or dropped): idempotent by the bitmap, fenced by the epoch.
-- KEYS: progress, finished bitmap, scored, deaths. ARGV: epoch, next step, numbers JSON {reason: [n..]}, entry ids JSON [..]
local known = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
if known > tonumber(ARGV[1]) then return redis.error_reply('FENCED epoch ' .. ARGV[1] .. ' is behind ' .. known) end
for reason, numbers in pairs(cjson.decode(ARGV[3])) do
  for _, number in ipairs(numbers) do
    if redis.call('SETBIT', KEYS[2], number, 1) == 0 then
      redis.call('HINCRBY', KEYS[1], 'count:' .. reason, 1)
    end
    redis.call('HDEL', KEYS[4], number)
  end
end
for _, id in ipairs(cjson.decode(ARGV[4])) do redis.call('XDEL', KEYS[3], id) end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
if tonumber(redis.call('HGET', KEYS[1], 'next_step') or '0') < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'next_step', ARGV[2])
end
return 1
