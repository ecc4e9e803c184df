-- What lies in a stream, without reading payloads: a hash beside it, entry id -> "number step bytes tokens source".
-- Every script that adds or deletes entries changes both. Redis logs the effects of one script as one MULTI/EXEC, of
-- which a truncated AOF keeps all or nothing, so the two stay in step through any loss. While nobody else deletes, the
-- index is a part of its stream, so equal sizes mean equal sets; a difference (a stranger's XADD, a stream that was
-- removed) is settled by reading the stream itself, once. Included by other scripts.
local function field_of(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i + 1] end
  end
end

local function count_of(text)
  if text and #text <= 10 and string.match(text, '^%d+$') and tonumber(text) < 4294967296 then return text end
end

local function index_row(fields)
  local source = field_of(fields, 'found_in')
  if source then source = source .. '/' .. (field_of(fields, 'entry') or '') end
  return table.concat({
    count_of(field_of(fields, 'number')) or '-', count_of(field_of(fields, 'step')) or '0',
    #(field_of(fields, 'payload') or ''), count_of(field_of(fields, 'tokens')) or '0',
    (string.gsub(source or '', '%s', '')),
  }, ' ')
end

local function read_rows(flat)
  local rows = {}
  for i = 1, #flat, 2 do
    local number, step, bytes, tokens, source = string.match(flat[i + 1], '^(%S+) (%d+) (%d+) (%d+) (%S*)$')
    if not number then return nil end
    rows[#rows + 1] = {
      id = flat[i], number = tonumber(number), step = tonumber(step), bytes = tonumber(bytes),
      tokens = tonumber(tokens), source = source,
    }
  end
  return rows
end

-- Rows {id, number (nil: names none), step, bytes, tokens, source} of everything in the stream, in no order.
local function rows_of(stream, index)
  local rows = read_rows(redis.call('HGETALL', index))
  if rows and #rows == redis.call('XLEN', stream) then return rows end
  redis.call('DEL', index)
  local from = '-'
  while true do
    local entries = redis.call('XRANGE', stream, from, '+', 'COUNT', 16)
    if #entries == 0 then return read_rows(redis.call('HGETALL', index)) end
    for _, entry in ipairs(entries) do redis.call('HSET', index, entry[1], index_row(entry[2])) end
    from = '(' .. entries[#entries][1]
  end
end

local function put(stream, index, fields)
  redis.call('HSET', index, redis.call('XADD', stream, '*', unpack(fields)), index_row(fields))
end

local function take_out(stream, index, id)
  redis.call('HDEL', index, id)
  return redis.call('XDEL', stream, id)
end

local function waste(tallies, reason, tokens)
  if tonumber(tokens) > 0 then redis.call('HINCRBY', tallies, 'wasted:' .. reason, tokens) end
end
