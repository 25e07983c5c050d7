-- KEYS: outbox, the alert's lanes, lane, state, lease, attempts, last, fence, reminders. ARGV: lane, fence,
-- notification's id, 'delivered', 'failed', 'given up' or 'skipped', attempt, time of the next try, time, lifetime,
-- attempts kept, time of the next reminder ('' for none).
local outbox, lanes, lane, state, lease, attempts = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local name, fence, id, how = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local holder = redis.call('HGET', state, 'fence') or ''
local mine = holder == fence
local number = math.abs(tonumber(fence))
if not mine and redis.call('ZCOUNT', attempts, number, number) > 0 then return {1} end

-- What a stale fence did is told apart by its half.
if how ~= 'skipped' then
  redis.call('ZADD', attempts, mine and number or number + 0.5, ARGV[5])
  redis.call('ZREMRANGEBYRANK', attempts, 0, -1 - tonumber(ARGV[9]))
  redis.call('EXPIRE', attempts, ARGV[8])
end
if mine then
  redis.call('DEL', lease)
  if how == 'failed' then
    redis.call('HSET', state, 'fence', '')
    redis.call('ZADD', outbox, ARGV[6], name)
    return {1}
  end
  if ARGV[10] == '' then
    redis.call('ZREM', KEYS[9], name)
  else
    redis.call('ZADD', KEYS[9], ARGV[10], name)
  end
  redis.call('LPOP', lane)
  redis.call('DEL', state)
  if redis.call('EXISTS', lane) == 1 then
    redis.call('ZADD', outbox, 0, name)
  else
    redis.call('ZREM', outbox, name)
    redis.call('SREM', lanes, name)
  end
  return {1}
end

local last = redis.call('GET', KEYS[7])
if not last then return {0} end
local last_id, notification = string.match(last, '^(%S+) (.*)$')
-- What nobody sends at this moment will be sent later than this parcel was, and so be the last word.
if redis.call('LLEN', lane) > (holder == '' and 0 or 1) then return {0} end
if how == 'delivered' and last_id ~= id then
  return {0, notification, -redis.call('INCR', KEYS[8])}
end
if how == 'failed' and (last_id ~= id or tonumber(fence) < 0) then
  redis.call('RPUSH', lane, notification)
  redis.call('ZADD', outbox, ARGV[6], name)
  redis.call('SADD', lanes, name)
end
return {0}
