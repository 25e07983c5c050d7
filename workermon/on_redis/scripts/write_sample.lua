-- Write what a collection fetched: datapoints into the ledger, the worker's condition, the pending mark (unless the
-- evaluation may wait), and the event on the channel.
-- Returns 'accepted', 'repeated' (the slot was complete: new datapoints were kept, nothing was announced), or 'gone'
-- (the worker does not exist with this incarnation: nothing was written).
local worker = KEYS[1]                 -- hash: the worker
local pending = KEYS[2]                -- zset: pending workers by the time they were marked
local rollups_due = KEYS[3]            -- zset: "<worker> <hour>" by the time of the hour's roll-up
local hours_at = 4                     -- KEYS[hours_at], …: hash: the ledger's hours that the datapoints belong to
local worker_id = ARGV[1]
local incarnation = ARGV[2]
local slot = ARGV[3]
local force = ARGV[4] == '1'           -- write even if the slot is complete
local at = ARGV[5]
local retention = tonumber(ARGV[6])    -- seconds
local tolerance = tonumber(ARGV[7])    -- seconds
local condition = ARGV[8]
local last_error = ARGV[9]             -- '' for none
local channel = ARGV[10]
local event = ARGV[11]
local rollup_delay = tonumber(ARGV[12]) -- seconds after an hour's end or a late datapoint; '' for no roll-ups
local steady = ARGV[13]                -- '' or the revision by which the worker is steady: then its evaluation may wait
-- For each hour its start, a line "field offset time period first_wins count" for each run, and the data of all its
-- runs, eight bytes a datapoint. All lines are one argument, because each argument costs the sender time.
-- first_wins is 1 if the first write of a datapoint counts, 0 if the last one does.
local datapoints_at = 14               -- ARGV[datapoints_at], …

local present, completed, changed_from, first_hour, last_hour, error_before, steady_by = unpack(redis.call(
  'HMGET', worker, 'incarnation', 'slot', 'changed_from', 'first_hour', 'last_hour', 'last_error', 'steady'))
if present ~= incarnation then return 'gone' end
local was_complete = is_complete(completed, slot, tolerance)
local repeated = not force and was_complete
local ABSENT = string.rep('\0', 8) -- a datapoint that was never written (on_redis/datapoint_packing.py)
local changed -- the time of the earliest datapoint that is new or changed
local known_first, known_last = tonumber(first_hour or ''), tonumber(last_hour or '')
local first, last = known_first, known_last

-- Return `new`, with the datapoints of `old` where `old` has them.
local function keep_first(old, new)
  local merged = {}
  for i = 1, #new, 8 do
    local kept = string.sub(old, i, i + 7)
    merged[#merged + 1] = (#kept == 8 and kept ~= ABSENT) and kept or string.sub(new, i, i + 7)
  end
  return table.concat(merged)
end

local stale = {} -- the hours that need a new roll-up
local function mark_hours(time, period, count)
  if not rollup_delay then return end
  for hour = math.floor(time / 3600) * 3600, time + (count - 1) * period, 3600 do stale[hour] = true end
end

local argument = datapoints_at
for k = hours_at, #KEYS do
  local hour, lines, data = tonumber(ARGV[argument]), ARGV[argument + 1], ARGV[argument + 2]
  argument = argument + 3
  local heads, fields, texts, dirty = {}, {}, {}, {}
  -- All fields of an hour are read and written in one call each, because each call costs time.
  local begin = 1
  local of_run = '([^\n]*) (%-?%d+) (%-?%d+) (%d+) ([01]) (%d+)\n'
  for field, offset, time, period, first_wins, count in string.gmatch(lines, of_run) do
    local new = string.sub(data, begin, begin + 8 * count - 1)
    begin = begin + #new
    heads[#heads + 1] = { field, tonumber(offset) * 8, tonumber(time), tonumber(period), first_wins == '1', new }
    if texts[field] == nil then
      texts[field] = false
      fields[#fields + 1] = field
    end
  end
  for i = 1, #fields, 1000 do
    local read = redis.call('HMGET', KEYS[k], unpack(fields, i, math.min(i + 999, #fields)))
    for j = 1, #read do texts[fields[i + j - 1]] = read[j] or '' end
  end
  for _, head in ipairs(heads) do
    local field, offset, time, period, first_wins, new = unpack(head)
    local text = texts[field]
    local old = string.sub(text, offset + 1, offset + #new)
    -- Only a clock that was ahead can have written it before its slot was complete.
    if first_wins and was_complete then new = keep_first(old, new) end
    if old ~= new then
      local same = 1
      while string.sub(old, same, same + 7) == string.sub(new, same, same + 7) do same = same + 8 end
      local since = time + (same - 1) / 8 * period
      if not changed or since < changed then changed = since end
      mark_hours(since, period, (#new - same + 1) / 8)
      if #text < offset then text = text .. string.rep('\0', offset - #text) end
      texts[field] = string.sub(text, 1, offset) .. new .. string.sub(text, offset + #new + 1)
      dirty[field] = true
    end
  end
  local written = {}
  for _, field in ipairs(fields) do
    if dirty[field] then
      written[#written + 1] = field
      written[#written + 1] = texts[field]
    end
  end
  if #written > 0 then
    for i = 1, #written, 1000 do redis.call('HSET', KEYS[k], unpack(written, i, math.min(i + 999, #written))) end
    local lifetime = math.ceil(hour + 3600 + retention - tonumber(at))
    if redis.call('TTL', KEYS[k]) < lifetime then redis.call('EXPIRE', KEYS[k], lifetime) end
    if not first or hour < first then first = hour end
    if not last or hour > last then last = hour end
  end
end

for hour in pairs(stale) do
  -- Before the ledger drops the hour.
  local latest = math.max(hour + 3600 + retention - 600, tonumber(at))
  local due = math.min(math.max(hour + 3600, tonumber(at)) + rollup_delay, latest)
  redis.call('ZADD', rollups_due, string.format('%.3f', due), worker_id .. ' ' .. string.format('%d', hour))
end

local updates = {}
local function set(field, value)
  updates[#updates + 1] = field
  updates[#updates + 1] = value
end
if changed then
  local since = tonumber(changed_from or '')
  if not since or changed < since then set('changed_from', string.format('%d', changed)) end
  if last ~= known_last then
    -- Expired hours at the beginning need not be looked for again.
    local prefix = string.match(KEYS[hours_at], '^(.*:)')
    while first < last and redis.call('EXISTS', prefix .. string.format('%d', first)) == 0 do first = first + 3600 end
  end
  if first ~= known_first or last ~= known_last then
    set('first_hour', string.format('%d', first))
    set('last_hour', string.format('%d', last))
  end
end
if changed or not repeated then
  -- A value that is not a number counts as 0.
  local counted = redis.pcall('HINCRBY', worker, 'seq', 1)
  if type(counted) == 'table' and counted.err then set('seq', 1) end
  if steady == '' or steady_by ~= steady then redis.call('ZADD', pending, 'NX', at, worker_id) end
end
if not repeated then
  set('condition', condition)
  set('slot', slot)
  if last_error ~= '' then
    set('last_error', last_error)
  elseif error_before then
    redis.call('HDEL', worker, 'last_error')
  end
end
if #updates > 0 then redis.call('HSET', worker, unpack(updates)) end
if repeated then return 'repeated' end
redis.call('PUBLISH', channel, event)
return 'accepted'
