-- A consumer can't make anything of its entry: keep a letter, and let the group go on as a failure where its number
-- would be lost otherwise.
-- KEYS: dead, its index, tallies, requeues, source, its index, target, its index, finished, cursor, deaths,
--   then (stream, index) of prompts, trajectories, scored.
-- ARGV: the letter (letters.lua), then: group, consumer, ledgered, failure payload ("" when no number is known)
-- include index
-- include letters
local owner = redis.call('XPENDING', KEYS[5], ARGV[13], ARGV[5], ARGV[5], 1)
if #owner == 0 or owner[1][2] ~= ARGV[14] then return 0 end
keep_letter()
redis.call('XACK', KEYS[5], ARGV[13], ARGV[5])
take_out(KEYS[5], KEYS[6], ARGV[5])
redis.call('HDEL', KEYS[11], ARGV[5])
if ARGV[16] == '' or (ARGV[15] == '1' and not number_ends_here(KEYS[9], KEYS[10], 12)) then
  waste(KEYS[3], ARGV[6], ARGV[10])
  return 1
end
put(KEYS[7], KEYS[8], {'job', ARGV[1], 'number', ARGV[2], 'step', ARGV[3], 'tokens', ARGV[10], 'payload', ARGV[16]})
return 1
