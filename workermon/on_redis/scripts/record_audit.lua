-- Add an entry to the audit trail, and drop entries that are too old or too many.
local order = KEYS[1]      -- zset: ids of entries by time
local entries = KEYS[2]    -- hash: entry by id
local id = ARGV[1]
local entry = ARGV[2]
local at = ARGV[3]
local before = ARGV[4]     -- entries before that time are dropped
local max_entries = ARGV[5] -- entries to keep
local lifetime = ARGV[6]   -- seconds

redis.call('ZADD', order, at, id)
redis.call('HSET', entries, id, entry)
local dropped = redis.call('ZRANGEBYSCORE', order, '-inf', '(' .. before, 'LIMIT', 0, 1000)
local excess = redis.call('ZCARD', order) - #dropped - tonumber(max_entries)
if excess > 0 then
  for _, old in ipairs(redis.call('ZRANGE', order, #dropped, #dropped + excess - 1)) do dropped[#dropped + 1] = old end
end
for _, old in ipairs(dropped) do
  redis.call('ZREM', order, old)
  redis.call('HDEL', entries, old)
end
redis.call('EXPIRE', order, lifetime)
redis.call('EXPIRE', entries, lifetime)
return #dropped
