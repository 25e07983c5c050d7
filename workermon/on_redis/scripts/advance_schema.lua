-- Write a version unless a higher one is stored. Returns the stored version.
local schema = KEYS[1]                 -- string
local version = tonumber(ARGV[1])

local stored = tonumber(redis.call('GET', schema) or '') or 0
if stored >= version then return stored end
redis.call('SET', schema, string.format('%d', version))
return version
