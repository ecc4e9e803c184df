-- Delete entries of a stream without consumer group. KEYS: stream, its index. ARGV: entry ids...
-- include index
for _, id in ipairs(ARGV) do take_out(KEYS[1], KEYS[2], id) end
return 1
