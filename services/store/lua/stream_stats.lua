-- Entries, payload bytes, age of the oldest entry in milliseconds and entries that a consumer holds, for each pair
-- (stream, index) of KEYS. ARGV: consumer group
-- include index
local found, oldest = {}, {}
for s = 1, #KEYS, 2 do
  local rows, bytes = rows_of(KEYS[s], KEYS[s + 1]), 0
  for _, row in ipairs(rows) do
    bytes = bytes + row.bytes
    local at = tonumber(string.match(row.id, '^%d+'))
    if not oldest[s] or at < oldest[s] then oldest[s] = at end
  end
  local pending = redis.pcall('XPENDING', KEYS[s], ARGV[1])  -- an error where there is no group: nobody holds anything
  found[#found + 1] = {#rows, bytes, 0, pending.err and 0 or pending[1]}
end
local now = redis.call('TIME')  -- last: nothing may be written after it
for s = 1, #KEYS, 2 do
  if oldest[s] then found[(s + 1) / 2][3] = math.max(0, now[1] * 1000 + math.floor(now[2] / 1000) - oldest[s]) end
end
return found
