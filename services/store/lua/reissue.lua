-- Issue a number again that a shorter memory of Redis swallowed.
-- KEYS: (stream, index) of prompts, trajectories, scored, then cursor, finished. ARGV: number, job, step, payload
-- include index
if tonumber(redis.call('GET', KEYS[7]) or '0') <= tonumber(ARGV[1]) then return 0 end
if redis.call('GETBIT', KEYS[8], ARGV[1]) == 1 then return 0 end
for s = 1, 5, 2 do
  for _, row in ipairs(rows_of(KEYS[s], KEYS[s + 1])) do
    if row.number == tonumber(ARGV[1]) then return 0 end
  end
end
put(KEYS[1], KEYS[2], {'job', ARGV[2], 'number', ARGV[1], 'step', ARGV[3], 'payload', ARGV[4]})
return 1
