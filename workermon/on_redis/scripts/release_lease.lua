-- Release a lease. Changes nothing if `owner` no longer holds it.
local lease = KEYS[1] -- string: the owner
local owner = ARGV[1]

if redis.call('GET', lease) == owner then redis.call('DEL', lease) end
return 1
