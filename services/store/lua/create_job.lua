-- A new job with its first event, unless the id is taken. KEYS: job, events. ARGV: fields JSON {field: value}, message, seconds now
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
for field, value in pairs(cjson.decode(ARGV[1])) do redis.call('HSET', KEYS[1], field, value) end
redis.call('XADD', KEYS[2], '*', 'created_at', ARGV[3], 'level', 'info', 'type', 'message', 'message', ARGV[2], 'data', 'null')
return 1
