-- Take a lease, or extend it. Returns 1 if `owner` holds it now, 0 if another owner does.
local lease        = KEYS[1] -- string: the owner
local owner        = ARGV[1]
local milliseconds = ARGV[2]

local holder = redis.call('GET', lease)
-- A lease longer than its full duration was taken before the server's clock was set back. It is no longer valid,
-- because a living owner would have extended it.
local is_sound = redis.call('PTTL', lease) <= 2 * tonumber(milliseconds)
if holder and holder ~= owner and is_sound then return 0 end
redis.call('SET', lease, owner, 'PX', milliseconds)
return 1
