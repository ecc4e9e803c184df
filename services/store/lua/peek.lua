-- Number and step of every entry of a stream that names a number. KEYS: stream, its index
-- include index
local found = {}
for _, row in ipairs(rows_of(KEYS[1], KEYS[2])) do
  if row.number then found[#found + 1] = {row.number, row.step} end
end
return found
