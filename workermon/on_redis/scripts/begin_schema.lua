-- Write the version of an empty server. Returns 1 if it was empty, else 0.
local schema = KEYS[1]                 -- string
local present_at = 2                   -- KEYS[present_at], …: any: every server that is not empty has one of them
local version = ARGV[1]

if redis.call('EXISTS', schema, unpack(KEYS, present_at)) > 0 then return 0 end
redis.call('SET', schema, version)
return 1
