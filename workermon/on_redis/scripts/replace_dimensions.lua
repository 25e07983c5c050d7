-- Replace what is stored of a worker's dimensions, unless another process has changed it meanwhile.
-- Returns an empty list if it did, one with the text that is stored if that is not the expected one, or one with 0 if
-- this incarnation of the worker is gone.
local worker = KEYS[1]      -- hash: the worker
local incarnation = ARGV[1]
local expected = ARGV[2]    -- the stored dimensions as they were read; '' for none
local dimensions = ARGV[3]
local at = ARGV[4]          -- seconds

local stored_incarnation, stored = unpack(redis.call('HMGET', worker, 'incarnation', 'dimensions'))
if stored_incarnation ~= incarnation then return { 0 } end
if (stored or '') ~= expected then return { stored or '' } end
redis.call('HSET', worker, 'dimensions', dimensions, 'dimensions_at', at)
return {}
