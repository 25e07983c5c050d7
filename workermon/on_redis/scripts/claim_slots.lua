-- KEYS: the workers. ARGV: milliseconds, then incarnation and slot of each.
local function complete(last, slot)
  if not last then return false end
  if last == slot then return true end
  local interval, number = string.match(last, '^(%d+):(%d+)$')
  local same, asked = string.match(slot, '^(%d+):(%d+)$')
  if not interval or interval ~= same then return false end
  local behind = (tonumber(number) - tonumber(asked)) * tonumber(interval)
  return behind >= 0 and behind <= 120
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local replies = {}
for i = 1, #KEYS do
  local incarnation, slot = ARGV[2 * i], ARGV[2 * i + 1]
  local had = redis.call('HMGET', KEYS[i], 'incarnation', 'slot', 'claim')
  local claimed, till
  if had[3] then claimed, till = string.match(had[3], '^(.+) (%d+)$') end
  if had[1] ~= incarnation then
    replies[i] = 'gone'
  elseif complete(had[2], slot) then
    replies[i] = 'complete'
  elseif claimed == slot and tonumber(till) > now then
    replies[i] = 'taken'
  else
    redis.call('HSET', KEYS[i], 'claim', slot .. ' ' .. string.format('%d', now + tonumber(ARGV[1])))
    replies[i] = 'claimed'
  end
end
return replies
