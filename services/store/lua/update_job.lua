-- Set fields of a job that exists. KEYS: job. ARGV: status it must have ("" for any), field, value, field, value, ...
local current = redis.call('HGET', KEYS[1], 'status')
if not current then return 0 end
if ARGV[1] ~= '' and ARGV[1] ~= current then return 1 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return 1
