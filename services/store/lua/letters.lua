-- Dead letters: copies of what nobody could read, bounded by count and bytes, oldest go first. Needs index.lua.
-- KEYS of every script that buries: dead, its index, tallies, requeues, the entry's stream, its index, ...
-- ARGV: job, number ("-" for none), step, found in, entry id, reason, detail, bytes, payload kept, tokens, most letters,
-- most bytes, ...
local function keep_letter()
  local source = ARGV[4] .. '/' .. ARGV[5]
  local rows = rows_of(KEYS[1], KEYS[2])
  local letters, bytes = #rows + 1, #ARGV[9]
  for _, row in ipairs(rows) do
    if row.source == source then return end  -- a repeat: of a lost answer, or by a reader that was started again
    bytes = bytes + row.bytes
  end
  put(KEYS[1], KEYS[2], {
    'job', ARGV[1], 'number', ARGV[2], 'step', ARGV[3], 'found_in', ARGV[4], 'entry', ARGV[5], 'reason', ARGV[6],
    'detail', ARGV[7], 'bytes', ARGV[8], 'tokens', ARGV[10], 'payload', ARGV[9],
  })
  redis.call('HINCRBY', KEYS[3], 'dead:' .. ARGV[6], 1)
  while letters > tonumber(ARGV[11]) or bytes > tonumber(ARGV[12]) do
    local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
    letters, bytes = letters - 1, bytes - #(field_of(oldest[2], 'payload') or '')
    take_out(KEYS[1], KEYS[2], oldest[1])
    redis.call('HDEL', KEYS[4], oldest[1])
    redis.call('HINCRBY', KEYS[3], 'dead_forgotten', 1)
  end
end

-- Whether a group's number has to end with this entry: it was issued, is not finished, and no other entry carries it.
-- `first` is where the pairs (stream, index) of the training streams begin in KEYS; KEYS[5] is the entry's own stream.
local function number_ends_here(finished, cursor, first)
  local number = tonumber(ARGV[2])
  if not number or number >= tonumber(redis.call('GET', cursor) or '0') then return false end
  if redis.call('GETBIT', finished, number) == 1 then return false end
  for s = first, first + 4, 2 do
    for _, row in ipairs(rows_of(KEYS[s], KEYS[s + 1])) do
      if row.number == number and not (KEYS[s] == KEYS[5] and row.id == ARGV[5]) then return false end
    end
  end
  return true
end
