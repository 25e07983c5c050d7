-- Return the records that cannot be read, and why. Deletes those that have not been tried for a while.
local unreadable = KEYS[1]     -- hash: key → when it was last tried, and why it cannot be read
local max_age = tonumber(ARGV[1]) -- seconds

local now = tonumber(redis.call('TIME')[1])
local records = {}
local stored = redis.call('HGETALL', unreadable)
for i = 1, #stored, 2 do
  local at, reason = string.match(stored[i + 1], '^(%d+) (.*)$')
  if at and math.abs(now - tonumber(at)) <= max_age then
    records[#records + 1] = {stored[i], reason}
  else
    redis.call('HDEL', unreadable, stored[i])
  end
end
return records
