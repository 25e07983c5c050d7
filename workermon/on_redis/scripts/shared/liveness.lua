-- Record that the listener worked, and since when it has worked without a break. `evaluates_only` is for an evaluation
-- that may not come from the listener: then only `listener:since` may change.
local function mark_listener(liveness, at, longest_break, evaluates_only)
  local before = tonumber(redis.call('HGET', liveness, 'listener') or '')
  local had_break = not before or tonumber(at) - before > longest_break
  local set_back = before and before - tonumber(at) > longest_break and not evaluates_only
  if had_break and (before or not evaluates_only) or set_back then
    redis.call('HSET', liveness, 'listener:since', at)
  end
  if set_back then redis.call('HDEL', liveness, 'collect:since') end
  if not evaluates_only then redis.call('HSET', liveness, 'listener', at) end
end

