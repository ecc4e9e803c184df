-- One consistent look at every group of a job.
-- KEYS: cursor, finished bitmap, progress hash, then (stream, index) of prompts, trajectories, scored.
-- Answers: cursor, finished bits, progress hash, numbers in flight, entries per stream, numbers neither finished nor found.
-- A number that was never issued is a stranger's and none of the ledger's.
-- include index
local cursor = tonumber(redis.call('GET', KEYS[1]) or '0')
local seen, per_stream = {}, {}
local in_flight = 0
for s = 4, 8, 2 do
  local rows = rows_of(KEYS[s], KEYS[s + 1])
  for _, row in ipairs(rows) do
    local number = row.number
    if number and number < cursor and not seen[number] and redis.call('GETBIT', KEYS[2], number) == 0 then
      seen[number] = true
      in_flight = in_flight + 1
    end
  end
  per_stream[#per_stream + 1] = #rows
end
local missing = {}
local finished = redis.call('BITCOUNT', KEYS[2])
if cursor ~= finished + in_flight then
  for number = 0, cursor - 1 do
    if not seen[number] and redis.call('GETBIT', KEYS[2], number) == 0 then missing[#missing + 1] = number end
  end
end
return {cursor, finished, redis.call('HGETALL', KEYS[3]), in_flight, per_stream, missing}
