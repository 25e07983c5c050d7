-- Return the records that cannot be read, and why. Deletes those that have not been tried for a while.
local unreadable = KEYS[1]     -- hash: key → when it was last tried, and why it cannot be read
local max_age = tonumber(ARGV[1]) -- seconds

local now = tonumber(redis.call('TIME')[1])
local records = {}
local noted = redis.call('HGETALL', unreadable)
for i = 1, #noted, 2 do
  local at, reason = string.match(noted[i + 1], '^(%d+) (.*)$')
  if at and math.abs(now - tonumber(at)) <= max_age then
    records[#records + 1] = {noted[i], reason}
  else
    redis.call('HDEL', unreadable, noted[i])
  end
end
return records
