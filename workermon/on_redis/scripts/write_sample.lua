-- KEYS: worker, unjudged, then the hours. ARGV: worker id, incarnation, slot, whether to write again, time, retention,
-- condition, trouble, channel, event; for each hour its start and number of runs; for each run "field offset time period
-- wins" (in one, for each argument costs its sender; wins: 1 where the first write does) and its data.
local function complete(last, slot)
  if not last then return false end
  if last == slot then return true end
  local interval, number = string.match(last, '^(%d+):(%d+)$')
  local same, asked = string.match(slot, '^(%d+):(%d+)$')
  if not interval or interval ~= same then return false end
  local behind = (tonumber(number) - tonumber(asked)) * tonumber(interval)
  return behind >= 0 and behind <= 120
end
local worker = KEYS[1]
local had = redis.call('HMGET', worker, 'incarnation', 'slot', 'changed_from', 'first_hour', 'last_hour', 'trouble')
if had[1] ~= ARGV[2] then return 'gone' end
local repeated = ARGV[4] == '0' and complete(had[2], ARGV[3])
local at, retention = tonumber(ARGV[5]), tonumber(ARGV[6])
local empty = string.rep('\0', 8)
local changed
local known_first, known_last = tonumber(had[4] or ''), tonumber(had[5] or '')
local first, last = known_first, known_last
local next = 11

local function merge(old, fresh)
  local slots = {}
  for i = 1, #fresh, 8 do
    local kept = string.sub(old, i, i + 7)
    slots[#slots + 1] = (#kept == 8 and kept ~= empty) and kept or string.sub(fresh, i, i + 7)
  end
  return table.concat(slots)
end

for k = 3, #KEYS do
  local hour, runs = tonumber(ARGV[next]), tonumber(ARGV[next + 1])
  local heads, fields, texts, dirty = {}, {}, {}, {}
  -- All fields of an hour are read at once and written at once: each call counts.
  for i = 1, runs do
    local field, place, moment, every, wins =
      string.match(ARGV[next + 2 * i], '^(.*) (%-?%d+) (%-?%d+) (%d+) ([01])$')
    heads[i] = {field, tonumber(place) * 8, tonumber(moment), tonumber(every), wins == '1', ARGV[next + 2 * i + 1]}
    if texts[field] == nil then
      texts[field] = false
      fields[#fields + 1] = field
    end
  end
  next = next + 2 + 2 * runs
  for i = 1, #fields, 1000 do
    local some = redis.call('HMGET', KEYS[k], unpack(fields, i, math.min(i + 999, #fields)))
    for j = 1, #some do texts[fields[i + j - 1]] = some[j] or '' end
  end
  for i = 1, runs do
    local field, offset, time, period, wins, fresh = unpack(heads[i])
    local text = texts[field]
    local old = string.sub(text, offset + 1, offset + #fresh)
    if wins then fresh = merge(old, fresh) end
    if old ~= fresh then
      local i = 1
      while string.sub(old, i, i + 7) == string.sub(fresh, i, i + 7) do i = i + 8 end
      local since = time + (i - 1) / 8 * period
      if not changed or since < changed then changed = since end
      if #text < offset then text = text .. string.rep('\0', offset - #text) end
      texts[field] = string.sub(text, 1, offset) .. fresh .. string.sub(text, offset + #fresh + 1)
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
    local life = math.ceil(hour + 3600 + retention - at)
    if redis.call('TTL', KEYS[k]) < life then redis.call('EXPIRE', KEYS[k], life) end
    if not first or hour < first then first = hour end
    if not last or hour > last then last = hour end
  end
end

local said = {}
local function say(field, value)
  said[#said + 1] = field
  said[#said + 1] = value
end
if changed then
  local since = tonumber(had[3] or '')
  if not since or changed < since then say('changed_from', string.format('%d', changed)) end
  if last ~= known_last then
    local prefix = string.match(KEYS[3], '^(.*:)')
    while first < last and redis.call('EXISTS', prefix .. string.format('%d', first)) == 0 do first = first + 3600 end
  end
  if first ~= known_first or last ~= known_last then
    say('first_hour', string.format('%d', first))
    say('last_hour', string.format('%d', last))
  end
end
if changed or not repeated then
  redis.call('HINCRBY', worker, 'seq', 1)
  redis.call('ZADD', KEYS[2], 'NX', ARGV[5], ARGV[1])
end
if not repeated then
  say('condition', ARGV[7])
  say('slot', ARGV[3])
  if ARGV[8] ~= '' then say('trouble', ARGV[8]) elseif had[6] then redis.call('HDEL', worker, 'trouble') end
end
if #said > 0 then redis.call('HSET', worker, unpack(said)) end
if repeated then return 'repeated' end
redis.call('PUBLISH', ARGV[9], ARGV[10])
return 'accepted'
