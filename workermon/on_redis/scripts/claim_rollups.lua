-- Claim hours whose roll-up is due. They are due again when the lease ends. Returns "<worker> <hour>" of each, the
-- longest due first.
local rollups_due = KEYS[1]            -- zset: "<worker> <hour>" by the time of the hour's roll-up
local now = ARGV[1]
local limit = ARGV[2]
local lease_ends_at = ARGV[3]          -- the end of the lease

local claimed = redis.call('ZRANGEBYSCORE', rollups_due, '-inf', now, 'LIMIT', 0, limit)
for _, member in ipairs(claimed) do redis.call('ZADD', rollups_due, lease_ends_at, member) end
return claimed
