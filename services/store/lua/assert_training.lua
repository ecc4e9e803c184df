-- What journal and checkpoint say of training, asserted anew: Redis may have a shorter memory than the disk. Entries of
-- finished numbers are removed from the given streams: their learner died before it could.
-- KEYS: progress, finished bitmap, cursor, tallies, then (stream, index) of the streams to clear.
-- ARGV: epoch, next step, lowest cursor, numbers JSON {reason: [n..]}
-- include index
-- include finished_entry
local known = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
if known > tonumber(ARGV[1]) then return redis.error_reply('FENCED epoch ' .. ARGV[1] .. ' is behind ' .. known) end
redis.call('DEL', KEYS[2])
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 6) == 'count:' then redis.call('HDEL', KEYS[1], field) end
end
local numbers = cjson.decode(ARGV[4])
for reason, list in pairs(numbers) do
  for _, number in ipairs(list) do
    if redis.call('SETBIT', KEYS[2], number, 1) == 0 then redis.call('HINCRBY', KEYS[1], 'count:' .. reason, 1) end
  end
end
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'next_step', ARGV[2], 'asserted_epoch', ARGV[1], 'asserted_run', run)
if tonumber(redis.call('GET', KEYS[3]) or '0') < tonumber(ARGV[3]) then redis.call('SET', KEYS[3], ARGV[3]) end
local outcome = outcome_of(numbers)
for s = 5, #KEYS, 2 do
  for _, row in ipairs(rows_of(KEYS[s], KEYS[s + 1])) do
    if row.number and outcome[row.number] then remove_finished(KEYS[s], KEYS[s + 1], KEYS[4], row, outcome) end
  end
end
return 1
