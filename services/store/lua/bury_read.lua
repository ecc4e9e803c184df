-- A reader of a stream without consumer group can't make anything of an entry: keep a letter. Answers 1 when the number
-- ends with this entry, which stays until the number is finished; 0 when the entry was removed and nothing else happens.
-- KEYS: dead, its index, tallies, requeues, source, its index, finished, cursor, then (stream, index) of prompts,
--   trajectories, scored. ARGV: the letter (letters.lua), then: ledgered
-- include index
-- include letters
keep_letter()
if ARGV[13] == '1' and number_ends_here(KEYS[7], KEYS[8], 9) then return 1 end
if take_out(KEYS[5], KEYS[6], ARGV[5]) == 1 then waste(KEYS[3], ARGV[6], ARGV[10]) end
return 0
