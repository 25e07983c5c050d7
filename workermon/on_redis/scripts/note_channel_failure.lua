-- Record a failed attempt to deliver to a channel, and keep the time of the first one in a row. Returns 1.
local failing = KEYS[1]   -- hash: "<since> <at> <retried> <reason>" by channel
local channel = ARGV[1]
local at = ARGV[2]        -- of the attempt
local retried = ARGV[3]   -- 1 if it will be retried
local reason = ARGV[4]

local stored = redis.call('HGET', failing, channel)
local since = stored and string.match(stored, '^(%S+) ')
-- A later beginning was recorded by a clock that was ahead.
if not since or tonumber(since) > tonumber(at) then since = at end
redis.call('HSET', failing, channel, table.concat({since, at, retried, reason}, ' '))
return 1
