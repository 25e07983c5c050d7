-- KEYS: outbox, the alert's lanes, fence. ARGV: now, lease in milliseconds, token, prefixes of lane, state and lease,
-- and from when on a time is that of a clock that was ahead.
local claimed = {}
local lanes = redis.call('SMEMBERS', KEYS[2])
table.sort(lanes)
for _, lane in ipairs(lanes) do
  local state, lease = ARGV[5] .. lane, ARGV[6] .. lane
  local holder, at = redis.call('GET', lease), redis.call('ZSCORE', KEYS[1], lane)
  local head = redis.call('LINDEX', ARGV[4] .. lane, 0)
  if head and not holder and at and (tonumber(at) <= tonumber(ARGV[1]) or tonumber(at) > tonumber(ARGV[7])) then
    redis.call('HSET', state, 'fence', redis.call('INCR', KEYS[3]))
    redis.call('HINCRBY', state, 'attempts', 1)
    redis.call('SET', lease, ARGV[3], 'PX', ARGV[2])
    holder = ARGV[3]
  end
  if head and holder == ARGV[3] then
    local had = redis.call('HMGET', state, 'fence', 'attempts')
    claimed[#claimed + 1] = {lane, head, had[1], had[2]}
  end
end
return claimed
