-- Give a lease back. Changes nothing if `owner` does not hold it any more.
local lease = KEYS[1] -- string: the owner
local owner = ARGV[1]

if redis.call('GET', lease) == owner then redis.call('DEL', lease) end
return 1
