-- Return when the group window of a notification closes. Open a new window if none is open.
local window = KEYS[1]                 -- string: when the open window closes
local created = tonumber(ARGV[1])      -- when the notification was made
local next_close = ARGV[2]             -- when a new window would close
local lifetime_milliseconds = ARGV[3]
local max_lead = tonumber(ARGV[4])     -- seconds

local closes = redis.call('GET', window)
local closes_at = tonumber(closes or '')
-- A window that closes later than a new one would was opened by a clock that was ahead.
if closes_at and created < closes_at and closes_at - tonumber(next_close) <= max_lead then return closes end
redis.call('SET', window, next_close, 'PX', lifetime_milliseconds)
return next_close
