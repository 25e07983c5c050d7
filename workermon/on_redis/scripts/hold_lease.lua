-- Take a lease, or extend it. Returns 1 if `owner` holds it now, 0 if somebody else does.
local lease        = KEYS[1] -- string: the owner
local owner        = ARGV[1]
local milliseconds = ARGV[2]

local holder = redis.call('GET', lease)
if holder and holder ~= owner then return 0 end
redis.call('SET', lease, owner, 'PX', milliseconds)
return 1
