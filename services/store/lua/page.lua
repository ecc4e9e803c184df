-- Ids of an index in order, from just after one id. KEYS: sorted set. ARGV: id ("" for the start), most, newest first (1 or 0)
-- Answers false for an id that the index does not have.
local start = 0
if ARGV[1] ~= '' then
  local rank = redis.call(ARGV[3] == '1' and 'ZREVRANK' or 'ZRANK', KEYS[1], ARGV[1])
  if not rank then return false end
  start = rank + 1
end
return redis.call(ARGV[3] == '1' and 'ZREVRANGE' or 'ZRANGE', KEYS[1], start, start + tonumber(ARGV[2]) - 1)
