-- Record that a record cannot be read. Returns 1 if that is new.
local unreadable = KEYS[1] -- hash: key → when it was last tried, and why it cannot be read
local name = ARGV[1]       -- of the key, or "<key> <field>"
local reason = ARGV[2]

return redis.call('HSET', unreadable, name, redis.call('TIME')[1] .. ' ' .. reason)
