-- Take entries idle for too long from whoever holds them; count a death unless the holder gave them back. The holder may
-- be the caller itself, when the answer to its own read was lost: no death then; it skips what it knows it holds.
-- KEYS: stream, deaths hash. ARGV: group, consumer, idle milliseconds, most
local found = {}
for _, row in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', ARGV[4])) do
  local taken = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, row[1], 'JUSTID')
  local entry = redis.call('XRANGE', KEYS[1], row[1], row[1])
  if #taken == 1 and #entry == 1 then
    local number = row[1]  -- of an entry that names none
    for i = 1, #entry[1][2], 2 do
      if entry[1][2][i] == 'number' then number = entry[1][2][i + 1] end
    end
    local deaths
    if row[2] == 'given-back' or row[2] == ARGV[2] then
      deaths = tonumber(redis.call('HGET', KEYS[2], number) or '0')
    else
      deaths = redis.call('HINCRBY', KEYS[2], number, 1)
    end
    found[#found + 1] = {row[1], entry[1][2], deaths}
  else
    redis.call('XACK', KEYS[1], ARGV[1], row[1])  -- the entry itself is gone
  end
end
return found
