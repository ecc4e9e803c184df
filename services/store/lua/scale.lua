-- Desired replicas of one kind of worker, with the operation that asked for them and the event: all or nothing.
-- KEYS: job, operations, events.
-- ARGV: final states JSON [..], field, replicas, operation id ("" for none), operation JSON, message, data JSON, seconds now
-- Answers {outcome, previous replicas or status}: "missing", "final", "conflict", "repeated" or "scaled".
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return {'missing', ''} end
local previous = redis.call('HGET', KEYS[1], ARGV[2])
if ARGV[4] ~= '' then
  local known = redis.call('HGET', KEYS[2], ARGV[4])
  if known then return {known == ARGV[5] and 'repeated' or 'conflict', previous} end
end
for _, final in ipairs(cjson.decode(ARGV[1])) do
  if final == status then return {'final', status} end
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
if ARGV[4] ~= '' then redis.call('HSET', KEYS[2], ARGV[4], ARGV[5]) end
redis.call('XADD', KEYS[3], '*', 'created_at', ARGV[8], 'level', 'info', 'type', 'message', 'message', ARGV[6], 'data', ARGV[7])
return {'scaled', previous}
