-- Remove entries whose numbers are finished. Needs index.lua. Their tokens were wasted for the number's reason; a second
-- entry of a number that was trained, or one of a number finished earlier, is a duplicate.
local function outcome_of(numbers)
  local outcome = {}
  for reason, list in pairs(numbers) do
    for _, number in ipairs(list) do outcome[number] = reason end
  end
  return outcome
end

local function remove_finished(stream, index, tallies, row, outcome)
  take_out(stream, index, row.id)
  local reason = outcome[row.number] or 'duplicate'
  if reason == 'trained' then
    outcome[row.number] = 'duplicate'
  else
    waste(tallies, reason, row.tokens)
  end
end
