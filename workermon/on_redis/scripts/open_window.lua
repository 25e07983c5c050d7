-- Return when the group window closes that a notification belongs to; open a new window if none is open.
local window = KEYS[1]                 -- string: when the open window closes
local created = tonumber(ARGV[1])      -- when the notification was made
local next_close = ARGV[2]             -- when a new window would close
local lifetime_milliseconds = ARGV[3]

local closes = redis.call('GET', window)
if closes and created < tonumber(closes) then return closes end
redis.call('SET', window, next_close, 'PX', lifetime_milliseconds)
return next_close
