-- Letters from the newest on, without their payloads. KEYS: dead. ARGV: newest id, most
local found = {}
for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], ARGV[1], '-', 'COUNT', ARGV[2])) do
  local fields = {}
  for i = 1, #entry[2], 2 do
    if entry[2][i] ~= 'payload' then
      fields[#fields + 1] = entry[2][i]
      fields[#fields + 1] = entry[2][i + 1]
    end
  end
  found[#found + 1] = {entry[1], fields}
end
return found
