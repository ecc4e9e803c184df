-- What journal and checkpoint say of training, asserted anew: Redis may have a shorter memory than the disk.
-- KEYS: progress, finished bitmap, cursor. ARGV: epoch, next step, lowest cursor, numbers JSON {reason: [n..]}
local known = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
if known > tonumber(ARGV[1]) then return redis.error_reply('FENCED epoch ' .. ARGV[1] .. ' is behind ' .. known) end
redis.call('DEL', KEYS[2])
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 6) == 'count:' then redis.call('HDEL', KEYS[1], field) end
end
for reason, numbers in pairs(cjson.decode(ARGV[4])) do
  for _, number in ipairs(numbers) do
    if redis.call('SETBIT', KEYS[2], number, 1) == 0 then redis.call('HINCRBY', KEYS[1], 'count:' .. reason, 1) end
  end
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'next_step', ARGV[2], 'asserted_epoch', ARGV[1])
if tonumber(redis.call('GET', KEYS[3]) or '0') < tonumber(ARGV[3]) then redis.call('SET', KEYS[3], ARGV[3]) end
return 1
