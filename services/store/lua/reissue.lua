-- Issue a number again that a shorter memory of Redis swallowed.
-- KEYS: prompts, trajectories, scored, cursor, finished. ARGV: number, job, step, payload
if tonumber(redis.call('GET', KEYS[4]) or '0') <= tonumber(ARGV[1]) then return 0 end
if redis.call('GETBIT', KEYS[5], ARGV[1]) == 1 then return 0 end
for s = 1, 3 do
  for _, entry in ipairs(redis.call('XRANGE', KEYS[s], '-', '+')) do
    for i = 1, #entry[2], 2 do
      if entry[2][i] == 'number' and entry[2][i + 1] == ARGV[1] then return 0 end
    end
  end
end
redis.call('XADD', KEYS[1], '*', 'job', ARGV[2], 'number', ARGV[1], 'step', ARGV[3], 'payload', ARGV[4])
return 1
