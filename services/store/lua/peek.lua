-- Number and step of every entry of a stream.
local rows = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
  local number, step
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'number' then number = entry[2][i + 1] end
    if entry[2][i] == 'step' then step = entry[2][i + 1] end
  end
  rows[#rows + 1] = {number, step}
end
return rows
