-- Return whether a slot, "<interval>:<number>", is complete, given the last completed slot (nil for none).
-- A slot at most `tolerance` seconds before the last completed one is complete too.
local function is_complete(last, slot, tolerance)
  if not last then return false end
  if last == slot then return true end
  local last_interval, last_number = string.match(last, '^(%d+):(%d+)$')
  local interval, number = string.match(slot, '^(%d+):(%d+)$')
  if not last_interval or last_interval ~= interval then return false end
  local behind = (tonumber(last_number) - tonumber(number)) * tonumber(interval)
  return behind >= 0 and behind <= tolerance
end

