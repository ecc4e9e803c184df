-- A person wants the prompt of a dead letter issued anew: a wish, which the dispatcher honours before new rows.
-- KEYS: job, dead, requeues {letter: new number, "" while it waits}, wishes, cursor.
-- ARGV: ended states JSON [..], letter, streams of the ledger JSON [..]
-- Answers {outcome, status or new number}: "missing", "ended", "unknown", "unnumbered", "wanted" or "repeated".
-- include index
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return {'missing', ''} end
local entry = redis.call('XRANGE', KEYS[2], ARGV[2], ARGV[2])[1]
if not entry then return {'unknown', ''} end
local known = redis.call('HGET', KEYS[3], ARGV[2])
if known and known ~= '' then return {'repeated', known} end
for _, ended in ipairs(cjson.decode(ARGV[1])) do
  if ended == status then return {'ended', status} end
end
if known then return {'repeated', known} end
local number, ledgered = count_of(field_of(entry[2], 'number')), false
for _, name in ipairs(cjson.decode(ARGV[3])) do ledgered = ledgered or field_of(entry[2], 'found_in') == name end
if not ledgered or not number or tonumber(number) >= tonumber(redis.call('GET', KEYS[5]) or '0') then
  return {'unnumbered', ''}
end
redis.call('RPUSH', KEYS[4], ARGV[2] .. ' ' .. number)
redis.call('HSET', KEYS[3], ARGV[2], '')
return {'wanted', ''}
