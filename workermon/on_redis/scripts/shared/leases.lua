-- Take a lease, or extend it. Returns whether `owner` holds it now.
local function hold(lease, owner, milliseconds)
  local holder = redis.call('GET', lease)
  -- A lease longer than its full duration was taken before the server's clock was set back. It is no longer valid,
  -- because a living owner would have extended it.
  local is_valid = redis.call('PTTL', lease) <= 2 * tonumber(milliseconds)
  if holder and holder ~= owner and is_valid then return false end
  redis.call('SET', lease, owner, 'PX', milliseconds)
  return true
end

