-- One change of a job's status, with its fields and its event: all or nothing.
-- KEYS: job, events.
-- ARGV: states in which the wish already holds JSON [..], moves JSON {from: to}, fields JSON {to: {field: value}},
--       messages JSON {to: text}, by, level, seconds now
-- Answers {outcome, status}: "missing", "holds" (nothing to do), "illegal" or "moved".
local current = redis.call('HGET', KEYS[1], 'status')
if not current then return {'missing', ''} end
for _, status in ipairs(cjson.decode(ARGV[1])) do
  if status == current then return {'holds', current} end
end
local to = cjson.decode(ARGV[2])[current]
if not to then return {'illegal', current} end
redis.call('HSET', KEYS[1], 'status', to)
for field, value in pairs(cjson.decode(ARGV[3])[to]) do redis.call('HSET', KEYS[1], field, value) end
redis.call('XADD', KEYS[2], '*', 'created_at', ARGV[7], 'level', ARGV[6], 'type', 'message',
  'message', cjson.decode(ARGV[4])[to], 'data', cjson.encode({from = current, to = to, by = ARGV[5]}))
return {'moved', to}
