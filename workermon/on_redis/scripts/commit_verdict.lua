-- Write a verdict: the alerts' new state, their transitions (into the history), their notifications (into the outbox).
-- Returns 1, or 0 if what the verdict is based on has changed; then nothing is written.
-- Repeating a call whose answer was lost (same token) returns 1 and changes nothing.
local record = KEYS[1]             -- hash: the subject itself; its alerts if it has no hash
local alerts = KEYS[2]             -- hash: version and state of the subject's alerts
local configuration = KEYS[3]      -- hash: document and revision
local pending = KEYS[4]            -- zset: workers to be evaluated
local open = KEYS[5]               -- zset: ids of open alerts by the beginning of the episode
local timeline = KEYS[6]           -- zset: "<number> <alert>" of each transition, by its time
local versions = KEYS[7]           -- hash: last version of each rule's notifications
local outbox = KEYS[8]             -- zset: queues by the time of the next try
local members = KEYS[9]            -- zset or set: all subjects of this kind; the subject's alerts if there is none
local history = KEYS[10]           -- hash: transitions by number
local size = KEYS[11]              -- string: bytes of the history
local numbers = KEYS[12]           -- string: counts transitions
local groups = KEYS[13]            -- set: subjects that are groups
local rollups_due = KEYS[14]       -- zset: "<worker> <hour>" by the time of the hour's roll-up
local escalations = KEYS[15]       -- zset: ids of alerts by the time of their next escalation
local entries_at = 16              -- KEYS[entries_at], …: for each transition the numbers of its alert, and if it
                                   -- notifies, the alert's last notification, the set of its queues, and those queues;
                                   -- then for each group that a worker belongs to its hash and that of its members
local retire = ARGV[1] == '1'      -- also delete the subject
local subject = ARGV[2]            -- its id
local incarnation = ARGV[3]        -- '' if the subject has no hash, or only one life
local version = ARGV[4]
local revision = ARGV[5]
local sequence = ARGV[6]           -- of the worker's last sample, or the group's last report; '' for others
local token = ARGV[7]
local state = ARGV[8]
local at = ARGV[9]
local feed = ARGV[10]              -- the channel on which notifications are published
local lifetime = tonumber(ARGV[11]) -- seconds for which transitions and last notifications are kept
local alerts_lifetime = ARGV[12]   -- the same for its alerts: '' if they are deleted with the subject, '0' for ever
local max_bytes = tonumber(ARGV[13]) -- of all transitions
local numbers_prefix = ARGV[14]
local ledger_prefix = ARGV[15]
local rollups_prefix = ARGV[16]
local steady = ARGV[17]            -- for a steady worker: the configuration's revision; '' for others
-- The changes are lists, each preceded by its length: alerts to open (id and beginning); alerts to close (id); alerts
-- whose time of escalation changes (id and time, '' for never); transitions (the alert's id, its time, the entry, and
-- the number of queues plus 1, or 0 if it notifies nobody; if it notifies, also rule, version, id, notification,
-- whether it is published, and the queues' names); reports of members (the group, the field, the text or '' to delete
-- it, and the time of the earliest new datapoint or '' for none).
local changes_at = 18              -- ARGV[changes_at], …

local present, present_sequence, first_hour, last_hour, first_week, steady_before =
  unpack(redis.call('HMGET', record, 'incarnation', 'seq', 'first_hour', 'last_hour', 'first_week', 'steady'))
if incarnation ~= '' and present ~= incarnation then return 0 end
local present_version, present_token = unpack(redis.call('HMGET', alerts, 'version', 'token'))
if present_token == token then return 1 end
if (present_version or '0') ~= version then return 0 end
if not retire and (redis.call('HGET', configuration, 'revision') or '0') ~= revision then return 0 end

local next_argument, next_key = changes_at, entries_at
local function argument()
  next_argument = next_argument + 1
  return ARGV[next_argument - 1]
end
local function key()
  next_key = next_key + 1
  return KEYS[next_key - 1]
end

-- Add to a number. A value that is not a number is replaced by `instead`.
local function increase(name, by, instead)
  local sum = redis.pcall('INCRBY', name, by)
  if type(sum) == 'number' then return sum end
  redis.call('SET', name, string.format('%d', instead))
  return instead
end
-- Return number, alert and time of the oldest transition, or nothing if there is none.
local function oldest()
  local member, time = unpack(redis.call('ZRANGE', timeline, 0, 0, 'WITHSCORES'))
  if not member then return end
  return tonumber(string.sub(member, 1, 15)), string.sub(member, 17), tonumber(time)
end
local function forget(number, alert)
  redis.call('DECRBY', size, redis.call('HSTRLEN', history, number))
  redis.call('HDEL', history, number)
  redis.call('ZREM', numbers_prefix .. alert, number)
  redis.call('ZREM', timeline, string.format('%015d %s', number, alert))
end

for _ = 1, tonumber(argument()) do
  local alert = argument()
  redis.call('ZADD', open, argument(), alert)
end
for _ = 1, tonumber(argument()) do redis.call('ZREM', open, argument()) end
for _ = 1, tonumber(argument()) do
  local alert, escalates_at = argument(), argument()
  if escalates_at == '' then
    redis.call('ZREM', escalations, alert)
  else
    redis.call('ZADD', escalations, escalates_at, alert)
  end
end
local notifies = false
for _ = 1, tonumber(argument()) do
  local alert, numbers_of_alert, time, entry = argument(), key(), argument(), argument()
  local number = increase(numbers, 1, math.floor(tonumber(at) * 1000)) -- above all numbers used before
  redis.call('HSET', history, number, entry)
  increase(size, #entry, redis.call('HLEN', history) * #entry)
  redis.call('ZADD', numbers_of_alert, number, number)
  redis.call('EXPIRE', numbers_of_alert, lifetime)
  redis.call('ZADD', timeline, time, string.format('%015d %s', number, alert))
  local queues = tonumber(argument()) - 1
  if queues >= 0 then
    notifies = true
    local last, queues_of_alert = key(), key()
    local rule, notification_version = argument(), argument()
    local notification_id, notification, published = argument(), argument(), argument() == '1'
    redis.call('HSET', versions, rule, notification_version)
    redis.call('SET', last, notification_id .. ' ' .. notification, 'EX', lifetime)
    for _ = 1, queues do
      local queue = argument()
      redis.call('RPUSH', key(), notification)
      redis.call('ZADD', outbox, 'NX', at, queue)
      redis.call('SADD', queues_of_alert, queue)
    end
    if published then redis.call('PUBLISH', feed, notification) end
  end
end
if next_key > entries_at then
  -- In small portions, so that no commit takes long: at most as many are dropped as are added.
  for _ = 1, 100 do
    local number, alert, time = oldest()
    if not number or (time >= tonumber(at) - lifetime and tonumber(redis.call('GET', size) or '') <= max_bytes) then
      break
    end
    forget(number, alert)
  end
  for _, name in ipairs({timeline, history, size, numbers}) do redis.call('EXPIRE', name, lifetime) end
end
if notifies or retire then redis.call('EXPIRE', versions, lifetime) end
for _ = 1, tonumber(argument()) do
  local group, group_members = key(), key()
  local name, field, text, changed_from = argument(), argument(), argument(), tonumber(argument())
  if text == '' then
    redis.call('HDEL', group_members, field)
  else
    redis.call('HSET', group_members, field, text)
    add(group, 'seq', 1)
    redis.call('PERSIST', group)
    local since = tonumber(redis.call('HGET', group, 'changed_from') or '')
    if changed_from and (not since or changed_from < since) then
      redis.call('HSET', group, 'changed_from', string.format('%d', changed_from))
    end
    redis.call('ZADD', pending, 'NX', at, name)
    redis.call('SADD', groups, name)
  end
end

if retire then
  if members ~= alerts then
    redis.call(redis.call('TYPE', members).ok == 'zset' and 'ZREM' or 'SREM', members, subject)
  end
  redis.call('DEL', record, alerts)
  redis.call('ZREM', pending, subject)
  first_hour, last_hour = tonumber(first_hour or ''), tonumber(last_hour or '')
  if first_hour and last_hour then
    for hour = first_hour, last_hour, 3600 do
      redis.call('DEL', ledger_prefix .. string.format('%d', hour))
    end
    -- A datapoint of the last hour may belong to the next one.
    for hour = first_hour, last_hour + 3600, 3600 do
      redis.call('ZREM', rollups_due, subject .. string.format(' %d', hour))
    end
    for week = tonumber(first_week or '') or last_hour + 1, last_hour + 3600, 7 * 86400 do
      redis.call('DEL', rollups_prefix .. string.format('%d', week))
    end
  end
  return 1
end
redis.call('HSET', alerts, 'version', string.format('%d', tonumber(version) + 1), 'token', token, 'alerts', state)
if alerts_lifetime == '0' then
  redis.call('PERSIST', alerts)
elseif alerts_lifetime ~= '' then
  redis.call('EXPIRE', alerts, alerts_lifetime)
end
if members == groups then
  if alerts_lifetime == '0' then
    redis.call('PERSIST', record)
  else
    redis.call('EXPIRE', record, alerts_lifetime)
    redis.call('SREM', groups, subject)
  end
end
if steady ~= (steady_before or '') then redis.call('HSET', record, 'steady', steady) end
if sequence ~= '' and present_sequence == sequence then
  redis.call('HDEL', record, 'changed_from')
  redis.call('ZREM', pending, subject)
elseif sequence ~= '' and steady == '' then
  -- A sample that waits was written meanwhile.
  redis.call('ZADD', pending, 'NX', at, subject)
end
return 1
