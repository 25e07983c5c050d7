-- KEYS: worker, alerts, configuration, unjudged, open, index, versions, outbox, workers (of a scope: scopes), the
-- ledger's without the hour; of each transition its history; of each notification the last one and the lanes; of each
-- of its lanes that.
-- ARGV: 'commit', 'retire' or 'leave' (that of a scope), worker id, incarnation, version, revision, sequence, token,
-- state, time, feed, lifetime, entries, alerts in the index; how many alerts to open and for each its id and since;
-- how many to close and their ids; how many transitions and for each its alert, entry and 0, or the number of its
-- lanes plus 1, rule, version, id, notification, lanes.
local worker, alerts, unjudged, open = KEYS[1], KEYS[2], KEYS[4], KEYS[5]
local index, versions, outbox = KEYS[6], KEYS[7], KEYS[8]
local retire, worker_id, at = ARGV[1] ~= 'commit', ARGV[2], ARGV[9]
local lifetime = tonumber(ARGV[11])
local had = redis.call('HMGET', worker, 'incarnation', 'seq', 'first_hour', 'last_hour')
if had[1] ~= ARGV[3] then return 0 end
local state = redis.call('HMGET', alerts, 'version', 'token')
if state[2] == ARGV[7] then return 1 end
if (state[1] or '0') ~= ARGV[4] then return 0 end
if not retire and (redis.call('HGET', KEYS[3], 'revision') or '0') ~= ARGV[5] then return 0 end

local a, k = 14, 11
local function following()
  a = a + 1
  return ARGV[a - 1]
end
local function key()
  k = k + 1
  return KEYS[k - 1]
end

for _ = 1, tonumber(following()) do
  local alert = following()
  redis.call('ZADD', open, following(), alert)
end
for _ = 1, tonumber(following()) do redis.call('ZREM', open, following()) end
local told = false
for _ = 1, tonumber(following()) do
  local alert, history = following(), key()
  redis.call('LPUSH', history, following())
  redis.call('LTRIM', history, 0, tonumber(ARGV[12]) - 1)
  redis.call('EXPIRE', history, lifetime)
  redis.call('ZADD', index, at, alert)
  local lanes = tonumber(following()) - 1
  if lanes >= 0 then
    told = true
    local last, of_alert = key(), key()
    local rule, version = following(), following()
    local id, notification = following(), following()
    redis.call('HSET', versions, rule, version)
    redis.call('SET', last, id .. ' ' .. notification, 'EX', lifetime)
    for _ = 1, lanes do
      local lane = following()
      redis.call('RPUSH', key(), notification)
      redis.call('ZADD', outbox, 'NX', at, lane)
      redis.call('SADD', of_alert, lane)
    end
    redis.call('PUBLISH', ARGV[10], notification)
  end
end
if k > 11 then
  redis.call('ZREMRANGEBYSCORE', index, '-inf', tonumber(at) - lifetime)
  redis.call('ZREMRANGEBYRANK', index, 0, -1 - tonumber(ARGV[13]))
  redis.call('EXPIRE', index, lifetime)
end
if told or retire then redis.call('EXPIRE', versions, lifetime) end

if retire then
  redis.call('DEL', worker, alerts)
  redis.call(ARGV[1] == 'leave' and 'SREM' or 'ZREM', KEYS[9], worker_id)
  redis.call('ZREM', unjudged, worker_id)
  if had[3] then
    for hour = tonumber(had[3]), tonumber(had[4]), 3600 do redis.call('DEL', KEYS[10] .. string.format('%d', hour)) end
  end
  return 1
end
redis.call('HSET', alerts, 'version', string.format('%d', tonumber(ARGV[4]) + 1), 'token', ARGV[7], 'alerts', ARGV[8])
if had[2] == ARGV[6] then
  redis.call('HDEL', worker, 'changed_from')
  redis.call('ZREM', unjudged, worker_id)
end
return 1
