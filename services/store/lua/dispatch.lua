-- Issue the next number: refused unless it equals the cursor.
-- KEYS: prompts, cursor. ARGV: number, job, step, payload
if tonumber(redis.call('GET', KEYS[2]) or '0') ~= tonumber(ARGV[1]) then return 0 end
redis.call('INCR', KEYS[2])
redis.call('XADD', KEYS[1], '*', 'job', ARGV[2], 'number', ARGV[1], 'step', ARGV[3], 'payload', ARGV[4])
return 1
