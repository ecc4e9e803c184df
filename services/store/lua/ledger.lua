-- One consistent look at every group of a job.
-- KEYS: cursor, finished bitmap, progress hash, prompts, trajectories, scored.
-- Answers: cursor, finished bits, progress hash, in-flight numbers per stream, numbers neither finished nor found.
local cursor = tonumber(redis.call('GET', KEYS[1]) or '0')
local seen, per_stream = {}, {}
local in_flight = 0
for s = 4, 6 do
  local count = 0
  for _, entry in ipairs(redis.call('XRANGE', KEYS[s], '-', '+')) do
    for i = 1, #entry[2], 2 do
      if entry[2][i] == 'number' then
        local number = tonumber(entry[2][i + 1])
        count = count + 1
        if not seen[number] and redis.call('GETBIT', KEYS[2], number) == 0 then
          seen[number] = true
          in_flight = in_flight + 1
        end
      end
    end
  end
  per_stream[#per_stream + 1] = count
end
local missing = {}
local finished = redis.call('BITCOUNT', KEYS[2])
if cursor ~= finished + in_flight then
  for number = 0, cursor - 1 do
    if not seen[number] and redis.call('GETBIT', KEYS[2], number) == 0 then missing[#missing + 1] = number end
  end
end
return {cursor, finished, redis.call('HGETALL', KEYS[3]), in_flight, per_stream, missing}
