-- The learner finished numbers (trained or dropped): idempotent by the bitmap, fenced by the epoch.
-- KEYS: progress, finished bitmap, scored, its index, deaths, tallies.
-- ARGV: epoch, next step, numbers JSON {reason: [n..]}, entry ids JSON [..]
-- include index
-- include finished_entry
local known = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
if known > tonumber(ARGV[1]) then return redis.error_reply('FENCED epoch ' .. ARGV[1] .. ' is behind ' .. known) end
local numbers = cjson.decode(ARGV[3])
for reason, list in pairs(numbers) do
  for _, number in ipairs(list) do
    if redis.call('SETBIT', KEYS[2], number, 1) == 0 then
      redis.call('HINCRBY', KEYS[1], 'count:' .. reason, 1)
    end
    redis.call('HDEL', KEYS[5], number)
  end
end
local rows, outcome = {}, outcome_of(numbers)
for _, row in ipairs(rows_of(KEYS[3], KEYS[4])) do rows[row.id] = row end
local ids = cjson.decode(ARGV[4])
for i = #ids, 1, -1 do  -- entries that are trained come last: what came before them under their number is a duplicate
  local row = rows[ids[i]]
  if row then remove_finished(KEYS[3], KEYS[4], KEYS[6], row, outcome) end
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
if tonumber(redis.call('HGET', KEYS[1], 'next_step') or '0') < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'next_step', ARGV[2])
end
return 1
